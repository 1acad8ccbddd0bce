-- Reads the reports of workers. keys has the keys of the queue by their names.
local WORKERS_AT_MOST = 1000

-- Calls use(session, moment of the last look, first line of the report, or '') for each worker that has looked at the
-- queue within three leases, the latest first.
local function each_worker(keys, lease, use)
  local seen = call('ZREVRANGEBYSCORE', keys.workers, '+inf', now - 3 * lease, 'WITHSCORES', 'LIMIT', 0, WORKERS_AT_MOST)
  for number = 1, #seen, 2 do
    use(seen[number], seen[number + 1], string.match(call('HGET', keys.reports, seen[number]) or '', '^[^\n]*'))
  end
end
