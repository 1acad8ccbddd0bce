#!lua flags=no-writes
-- Lists the workers that have looked at the queue within three leases, the latest first.
-- KEYS   workers reports
-- needs  seen_workers
-- ARGV   lease (ms)
-- answer {now, session, moment of the last look and first line of the report, or '', for each worker}
-- repeat reads again
local answer = {now}
each_worker({workers = workers, reports = reports}, tonumber(arg()), function(session, at, report)
  local position = #answer
  answer[position + 1], answer[position + 2], answer[position + 3] = session, at, report
end)
return answer
