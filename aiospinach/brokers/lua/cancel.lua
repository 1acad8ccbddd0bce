#!lua flags=allow-oom
-- Cancels a job wherever it is, unless it cannot be read.
-- KEYS   jobs leases future cancels
-- needs  envelopes
-- ARGV   id
-- answer {now, 'waiting' or 'queued' or 'running' or 'not_set', envelope}
-- repeat what waited is gone, and what runs is marked again
local id = arg()
local envelope = call('HGET', jobs, id)
if not envelope or not header(envelope) then -- guard: cancelled
  return {now, 'not_set', ''}
end
if call('ZREM', future, id) == 1 then
  call('HDEL', jobs, id)
  return {now, 'waiting', envelope}
end
local cursor = '0'
repeat
  local page = call('ZSCAN', leases, cursor, 'MATCH', id .. ':*', 'COUNT', 1000)
  cursor = page[1]
  for number = 1, #page[2], 2 do
    if id_of(page[2][number]) == id then -- guard: whole id
      call('SADD', cancels, page[2][number])
      return {now, 'running', envelope}
    end
  end
until cursor == '0'
call('HSET', jobs, id, TOMBSTONE)
call('SADD', cancels, ' ' .. id)
return {now, 'queued', envelope}
