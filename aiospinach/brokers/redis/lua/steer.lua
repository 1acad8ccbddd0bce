#!lua flags=allow-oom
-- Does what somebody orders for one job.
-- KEYS   ready jobs leases future cancels dead deadjobs control lanes dedup:0 dedup:1 wake
-- needs  headers parking dead_records notify
-- ARGV   'cancel', 'cancel again', 'requeue' or 'discard'; id
-- answer {now, where the job was: 'waiting', 'queued', 'running', 'failed', or 'not_set' if there was none and nothing is
--        done; envelope, if it was cancelled and can be told; or 'bare', if it cannot be requeued since it was kept
--        without its arguments}
--        'marked' tells that too many jobs run to see whether this one does: who has looked for it among them, and has
--        not found it, cancels again
-- repeat what was done is not done again: 'not_set', but a running job is marked again
local action, id = arg(), arg()
local FEW = 1000

local function forget() -- so that the id is free
  call('HDEL', jobs, id)
  call('SREM', dedup0, id)
  call('SREM', dedup1, id)
end

local function is_running()
  local cursor, pattern = '0', string.gsub(id, '[%[%]%*%?\\]', '\\%0') .. ':*'
  repeat
    local page = call('ZSCAN', leases, cursor, 'MATCH', pattern, 'COUNT', FEW)
    cursor = page[1]
    for number = 1, #page[2], 2 do
      if id_of(page[2][number]) == id then -- guard: whole id
        return true
      end
    end
  until cursor == '0'
  return false
end

-- Ends a job that waits. One that runs is marked by its id, for its worker. One that lies in a line is deleted: its id
-- stays there, with a mark that says so.
local function cancel(is_second)
  local envelope = call('HGET', jobs, id)
  if is_second and call('HGET', cancels, id) == 'ended' then -- guard: met in line
    call('HDEL', cancels, id)
    return {now, 'queued', ''}
  end
  local task, _, _, _, _, parked = header(envelope or '')
  if not task then -- guard: cancelled
    return {now, 'not_set', ''}
  end
  local is_parked = call('ZREM', lanes, parked_entry('?' .. task, parked, id)) == 1 -- guard: parked job
  if is_parked or call('ZREM', future, id) == 1 then
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
end

local function requeue()
  if call('HEXISTS', jobs, id) == 1 then -- guard: live again
    return false
  end
  local envelope, is_readable = envelope_of_dead(id, call('HGET', deadjobs, id))
  if not is_readable then -- guard: unreadable dead job
    return false
  end
  if is_bare(envelope) then -- guard: bare dead job
    return false, 'bare'
  end
  if call('HDEL', cancels, id) == 0 then -- guard: place in line
    call('RPUSH', ready, id)
  end
  call('HSET', jobs, id, rewritten(envelope, {retries = 0, crashes = 0, parked = 0, at = now}))
  notify()
  return true
end

if action == 'cancel' or action == 'cancel again' then
  return cancel(action == 'cancel again')
end
if call('HEXISTS', deadjobs, id) == 0 then
  return {now, 'not_set', ''}
end
if action == 'requeue' then
  local is_queued, why = requeue()
  if not is_queued then
    return {now, 'not_set', why or ''}
  end
end
call('HDEL', deadjobs, id)
call('ZREM', dead, id)
return {now, 'failed', ''}
