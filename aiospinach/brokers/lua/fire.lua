#!lua
-- Moves a periodic task to its next due, and stores the job of the tick.
-- KEYS   ready jobs periodic wake
-- needs  wake
-- ARGV   task, due, next due, id and envelope of the job (empty: none)
-- answer {now, 1 if it was moved, 0 if somebody else did}
-- repeat the due has moved already
local task, due, next_due, id, envelope = arg(), arg(), arg(), arg(), arg()
local current = call('ZSCORE', periodic, task)
if not current or tonumber(current) ~= tonumber(due) then -- guard: due
  return {now, 0}
end
if id ~= '' then
  if call('HEXISTS', jobs, id) == 0 then -- guard: new tick
    call('RPUSH', ready, id)
    call('HSET', jobs, id, envelope)
    arm()
  end
end
call('ZADD', periodic, next_due, task)
return {now, 1}
