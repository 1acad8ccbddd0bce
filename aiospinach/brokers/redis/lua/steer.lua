#!lua flags=allow-oom
-- Cancels a job, or requeues or discards a dead one.
-- KEYS   ready jobs leases future cancels dead deadjobs control lanes dedup:0 dedup:1 wake
--        and result:<id> of the job
-- needs  headers parking dead_records notify ends
-- ARGV   'cancel', 'cancel again', 'requeue' or 'discard'; id; the channel of orders to workers; for 'cancel again' the
--        envelope that came with 'marked'
-- answer {now, status, detail}. The status is where the job was: 'waiting', 'queued', 'running' or 'failed'; or 'not_set'
--        if there was no such job, and nothing was done; or 'marked' if too many jobs run for this script to search them.
--        A caller that gets 'marked' searches the leases, and sends 'cancel again' if none is of the job. The detail is
--        the envelope of a cancelled job, or 'bare' if a dead job was kept without its arguments and cannot be requeued
-- repeat returns 'not_set' and changes nothing, but marks a running job again
local action, id, orders = arg(), arg(), arg()
local FEW = 1000

local function note_cancelled(envelope)
  local ttl, rest = kept_end(envelope)
  if ttl > 0 then
    note_end(KEYS[FIXED_KEYS + 1], id, 'cancelled', ttl, rest)
  end
end

local function forget(envelope) -- so that the id is free
  note_cancelled(envelope)
  call('HDEL', jobs, id)
  call('SREM', dedup0, id)
  call('SREM', dedup1, id)
end

local function notify_worker() -- a user without this right cancels all the same
  redis.pcall('SPUBLISH', orders, 'cancel ' .. id)
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

-- Ends a waiting job. A running job is marked by its id, for its worker. A job in a line is deleted, and its id stays in
-- the line, marked as gone.
local function cancel(is_after_search)
  local envelope = call('HGET', jobs, id)
  if is_after_search and call('HGET', cancels, id) == 'ended' then -- guard: met in line
    call('HDEL', cancels, id)
    note_cancelled(arg())
    return {now, 'queued', ''}
  end
  local task, _, _, _, _, parked = header(envelope or '')
  if not task then -- guard: cancelled
    return {now, 'not_set', ''}
  end
  local is_parked = call('ZREM', lanes, parked_entry('?' .. task, parked, id)) == 1 -- guard: parked job
  if is_parked or call('ZREM', future, id) == 1 then
    forget(envelope)
    return {now, 'waiting', envelope}
  end
  if is_after_search and not call('HGET', cancels, id) then -- guard: ended meanwhile
    return {now, 'not_set', ''}
  end
  call('HSET', control, ' cancels', 1)
  if not is_after_search and call('ZCARD', leases) > FEW then -- guard: many leases
    call('HSET', cancels, id, 'asked')
    notify_worker()
    return {now, 'marked', envelope}
  end
  call('HSET', cancels, id, 'gone')
  if not is_after_search and is_running() then
    notify_worker()
    return {now, 'running', envelope}
  end
  forget(envelope)
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
