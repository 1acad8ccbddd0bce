#!lua flags=allow-oom
-- Prolongs leases.
-- KEYS   leases cancels
-- needs  chunks task_of headers marks
-- ARGV   lease (ms), then the leases
-- answer {now, leases that are gone, leases whose job is to be cancelled}
-- repeat prolongs them again
local length = tonumber(arg())
local asked, scores, lost, live = {}, {}, {}, {}
for number = 2, #ARGV do
  asked[number - 1] = ARGV[number]
end
for number, score in ipairs(read_in_chunks('ZMSCORE', leases, asked)) do
  if score then -- guard: renewed lease
    scores[#scores + 1] = now + length
    scores[#scores + 1] = asked[number]
    live[#live + 1] = asked[number]
  else
    lost[#lost + 1] = asked[number]
  end
end
call_in_chunks('ZADD', leases, scores)
local cancelled = {}
if call('EXISTS', cancels) == 1 then
  local ids = {}
  for number, lease in ipairs(live) do
    ids[number] = id_of(lease) or ''
  end
  for number, mark in ipairs(read_in_chunks('HMGET', cancels, ids)) do
    if is_cancelled(mark) then
      cancelled[#cancelled + 1] = live[number]
    end
  end
end
return {now, lost, cancelled}
