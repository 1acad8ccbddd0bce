#!lua flags=no-writes
-- Lists the workers that have looked at the queue within three leases, the latest first.
-- KEYS   workers reports
-- ARGV   lease (ms)
-- answer {now, session, moment of the last look and first line of the report, or '', for each worker}
-- repeat reads again
local WORKERS_AT_MOST = 1000
local seen = call('ZREVRANGEBYSCORE', workers, '+inf', now - 3 * arg(), 'WITHSCORES', 'LIMIT', 0, WORKERS_AT_MOST)
local answer = {now}
for number = 1, #seen, 2 do
  answer[#answer + 1] = seen[number]
  answer[#answer + 1] = seen[number + 1]
  answer[#answer + 1] = string.match(call('HGET', reports, seen[number]) or '', '^[^\n]*')
end
return answer
