#!lua flags=allow-oom
-- Cancels a job wherever it is, unless it cannot be read. A job that waits is deleted. A job that runs is marked by its
-- id, for its worker. A job that lies in a line is deleted as well: its id stays in the line, with a mark that says so.
-- KEYS   jobs leases future cancels control dedup:0 dedup:1
-- needs  envelopes
-- ARGV   id, 1 if the caller has looked for it among those that run, after it was told 'marked', and has not found it
-- answer {now, 'waiting' or 'queued' or 'running' or 'not_set', or 'marked' if too many run to see whether it does;
--        envelope, if it is there still}
-- repeat what waited or was queued is gone, and what runs is marked again
local id, is_second = arg(), arg() == '1'
local FEW = 1000
local envelope = call('HGET', jobs, id)
if is_second and call('HGET', cancels, id) == 'ended' then -- guard: met in line
  call('HDEL', cancels, id)
  return {now, 'queued', ''}
end
if not envelope or not header(envelope) then -- guard: cancelled
  return {now, 'not_set', ''}
end

local function forget() -- so that the id is free
  call('HDEL', jobs, id)
  call('SREM', dedup0, id)
  call('SREM', dedup1, id)
end

local function is_running()
  local cursor = '0'
  repeat
    local page = call('ZSCAN', leases, cursor, 'MATCH', id .. ':*', 'COUNT', FEW)
    cursor = page[1]
    for number = 1, #page[2], 2 do
      if id_of(page[2][number]) == id then -- guard: whole id
        return true
      end
    end
  until cursor == '0'
  return false
end

if call('ZREM', future, id) == 1 then
  forget()
  return {now, 'waiting', envelope}
end
if is_second and not call('HGET', cancels, id) then -- guard: ended meanwhile
  return {now, 'not_set', ''}
end
call('HSET', control, ' cancels', 1)
if not is_second and call('ZCARD', leases) > FEW then -- guard: many leases
  call('HSET', cancels, id, 'asked')
  return {now, 'marked', envelope}
end
call('HSET', cancels, id, 'gone')
if not is_second and is_running() then
  return {now, 'running', envelope}
end
forget()
return {now, 'queued', envelope}
