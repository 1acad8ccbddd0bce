#!lua flags=allow-oom
-- Queues a dead job again, if it can be read, or forgets it.
-- KEYS   ready jobs cancels dead deadjobs wake
-- needs  envelopes records wake
-- ARGV   'requeue' or 'discard', id
-- answer {now, 1 if there was one, 0 if not}
-- repeat it is not dead any more
local action, id = arg(), arg()
local record = call('HGET', deadjobs, id)
if not record then
  return {now, 0}
end
if action == 'requeue' then
  if call('HEXISTS', jobs, id) == 1 then -- guard: live again
    return {now, 0}
  end
  local envelope = envelope_of_dead(id, record)
  if not envelope then -- guard: unreadable dead job
    return {now, 0}
  end
  if call('HDEL', cancels, id) == 0 then -- guard: place in line
    call('RPUSH', ready, id)
  end
  call('HSET', jobs, id, rewritten(envelope, {retries = 0, crashes = 0, parked = 0, at = now}))
  arm()
end
call('HDEL', deadjobs, id)
call('ZREM', dead, id)
return {now, 1}
