#!lua flags=allow-oom
-- Cancels a job, or requeues or discards a dead one.
-- KEYS   ready jobs leases future cancels dead deadjobs control lanes dedup:0 dedup:1 wake events
--        and result:<id> of the job
-- needs  chunks task_of headers last_error parking dead_records requeue running ends events forgetting notify
-- ARGV   'cancel', 'cancel again', 'requeue' or 'discard'; id; the channel of orders to workers; how many rows of events
--        the stream keeps, 0: there is none; for 'cancel again' the
--        envelope that came with 'marked'
-- answer {now, status, detail}. The status is where the job was: 'waiting', 'queued', 'running' or 'failed'; or 'not_set'
--        if there was no such job, and nothing was done; or 'marked' if too many jobs run for this script to search them.
--        A caller that gets 'marked' searches the leases, and sends 'cancel again' if none is of the job. The detail is
--        the envelope of a cancelled job, or 'bare' if a dead job was kept without its arguments and cannot be requeued
-- repeat returns 'not_set' and changes nothing, but marks a running job again
local action, id, orders = arg(), arg(), arg()
rows_of_events = arg()

local function notify_worker() -- a user without this right cancels all the same
  redis.pcall('SPUBLISH', orders, 'cancel ' .. id)
end

-- Ends a waiting job. A running job is marked by its id, for its worker. A job in a line is deleted, and its id stays in
-- the line, marked as gone.
local function cancel(is_after_search)
  local envelope = call('HGET', jobs, id)
  if is_after_search and call('HGET', cancels, id) == 'ended' then -- guard: met in line
    call('HDEL', cancels, id)
    local envelope_of_ended = arg()
    note_cancelled(id, envelope_of_ended)
    if rows_of_events ~= '0' then
      tell_cancelled({id}, {envelope_of_ended})
    end
    return {now, 'queued', ''}
  end
  local task, _, _, _, _, parked = header(envelope or '')
  if not task then -- guard: cancelled
    return {now, 'not_set', ''}
  end
  local is_parked = call('ZREM', lanes, parked_entry('?' .. task, parked, id)) == 1 -- guard: parked job
  if is_parked or call('ZREM', future, id) == 1 then
    forget({id}, {envelope})
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
  if not is_after_search and is_running(id) then
    notify_worker()
    return {now, 'running', envelope}
  end
  forget({id}, {envelope})
  return {now, 'queued', envelope}
end

if action == 'cancel' or action == 'cancel again' then
  return cancel(action == 'cancel again')
end
if call('HEXISTS', deadjobs, id) == 0 then
  return {now, 'not_set', ''}
end
if action == 'requeue' then
  local is_queued, why = requeue(id, call('HGET', deadjobs, id))
  if not is_queued then
    return {now, 'not_set', why or ''}
  end
  notify()
end
call('HDEL', deadjobs, id)
call('ZREM', dead, id)
return {now, 'failed', ''}
