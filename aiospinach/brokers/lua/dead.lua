#!lua flags=allow-oom
-- Lists dead jobs, the latest first.
-- KEYS   dead deadjobs
-- needs  lists graves
-- ARGV   offset, count
-- answer {now, id and record of each}; a record: time of death, length of the envelope, newline, envelope,
--        detail
-- repeat reads again; what is too old is forgotten
local offset, count = tonumber(arg()), tonumber(arg())
local answer = {}
bury_old()
if count <= 0 then
  return {now, answer}
end
local ids = call('ZREVRANGE', dead, offset, offset + count - 1)
for number, record in ipairs(looked_up('HMGET', deadjobs, ids)) do
  if record then
    answer[#answer + 1] = ids[number]
    answer[#answer + 1] = record
  end
end
return {now, answer}
