#!lua flags=allow-oom
-- Moves periodic tasks to their next dues without the jobs of these ticks, when the memory is full.
-- KEYS   periodic
-- ARGV   for each tick: task, due, next due
-- answer {now, for each tick: 1 if its due was moved, 0 if another caller had moved it}
-- repeat moves nothing: the dues have moved already
local moved = {}
while position < #ARGV do
  local task, due, next_due = arg(), arg(), arg()
  local current = call('ZSCORE', periodic, task)
  if current and tonumber(current) == tonumber(due) then -- guard: skipped due
    call('ZADD', periodic, next_due, task)
    moved[#moved + 1] = 1
  else
    moved[#moved + 1] = 0
  end
end
return {now, moved}
