-- Counts the jobs of a queue. keys has the keys of the queue by their names.
local HEADS_AT_MOST = 100

-- Returns how many jobs are ready, running, waiting, parked and dead.
local function counts_of(keys)
  local running, scheduled = call('ZCARD', keys.leases), call('ZCARD', keys.future)
  local due = call('ZCOUNT', keys.future, '-inf', now)
  local parked = call('ZLEXCOUNT', keys.lanes, '[?', '(@')
  local queued = call('HLEN', keys.jobs) - running - scheduled - parked
  return math.max(0, queued) + due, running, scheduled - due, parked, call('ZCARD', keys.dead)
end

-- Returns when the first job in line was due, as text; nil if there is none. Some ids in line are of cancelled jobs.
local function oldest_of(keys)
  local first = call('ZRANGEBYSCORE', keys.future, '-inf', now, 'WITHSCORES', 'LIMIT', 0, 1)[2]
  for _, id in ipairs(call('LRANGE', keys.ready, 0, HEADS_AT_MOST - 1)) do
    -- One by one: bodies may be large, and the first is enough.
    local _, _, at = header(call('HGET', keys.jobs, id) or '')
    if at and tonumber(at) <= now then -- a job that took over a place in line may be due later
      return tonumber(at) < tonumber(first or 'inf') and at or first
    end
  end
  return first
end
