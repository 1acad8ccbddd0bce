-- Queues a dead job again, as if it had never run. Returns whether it was queued, and 'bare' if it was kept without its
-- arguments, and cannot be.
local function requeue(id, record)
  if call('HEXISTS', jobs, id) == 1 then -- guard: live again
    return false
  end
  local envelope, is_readable = envelope_of_dead(id, record)
  if not is_readable then -- guard: unreadable dead job
    return false
  end
  if is_bare(envelope) then -- guard: bare dead job
    return false, 'bare'
  end
  local mark = call('HGET', cancels, id)
  call('HDEL', cancels, id)
  if not mark or mark == 'ended' then -- guard: place in line
    call('RPUSH', ready, id)
  end
  call('HSET', jobs, id, with_error(rewritten(envelope, {retries = 0, crashes = 0, parked = 0, at = now}), '-'))
  return true
end
