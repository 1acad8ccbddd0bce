#!lua
-- Moves periodic tasks to their next dues, and stores the jobs of these ticks.
-- KEYS   ready jobs periodic wake
-- needs  wake
-- ARGV   for each: task, due, next due, id and envelope of the job (empty: none)
-- answer {now, for each: 1 if it was moved, 0 if somebody else did}
-- repeat the dues have moved already
call('LLEN', ready)
call('LLEN', wake)
local moved, is_something_queued = {}, false
while position < #ARGV do
  local task, due, next_due, id, envelope = arg(), arg(), arg(), arg(), arg()
  local current = call('ZSCORE', periodic, task)
  if current and tonumber(current) == tonumber(due) then -- guard: due
    if id ~= '' and call('HEXISTS', jobs, id) == 0 then -- guard: new tick
      call('RPUSH', ready, id)
      call('HSET', jobs, id, envelope)
      is_something_queued = true
    end
    call('ZADD', periodic, next_due, task)
    moved[#moved + 1] = 1
  else
    moved[#moved + 1] = 0
  end
end
if is_something_queued then
  arm()
end
return {now, moved}
