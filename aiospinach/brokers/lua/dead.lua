#!lua flags=allow-oom
-- Lists dead jobs, the latest first.
-- KEYS   dead deadjobs
-- needs  lists envelopes records graves
-- ARGV   offset, count
-- answer {now, offset of what follows, id and record of each}; a record: time of death, length of the envelope,
--        newline, envelope, detail. One that cannot be read is left out, and the page filled with what follows
-- repeat reads again; what is too old is forgotten
local offset, count = tonumber(arg()), tonumber(arg())
local answer, LOOKS = {}, 10
bury_old()
for _ = 1, LOOKS do
  local left = count - #answer / 2
  local ids = left > 0 and call('ZREVRANGE', dead, offset, offset + left - 1) or {}
  for number, record in ipairs(looked_up('HMGET', deadjobs, ids)) do
    if record and envelope_of_dead(ids[number], record) then -- guard: unreadable record
      answer[#answer + 1] = ids[number]
      answer[#answer + 1] = record
    end
  end
  offset = offset + #ids
end
return {now, offset, answer}
