#!lua
-- Moves periodic tasks to their next dues, and stores the jobs of these ticks.
-- KEYS   ready jobs control periodic wake pauses events
-- needs  notify
-- ARGV   how many rows of events the stream keeps, 0: there is none; for each tick: task, due, next due, id and envelope of the job (empty: none), 1 if it may overlap with the job of
--        the tick before
-- answer {now, for each tick: 1 if its due was moved, 0 if another caller had moved it, 2 if it was moved without a job,
--        because the job of the tick before lives; control has the id of that job as ' @<task>'; 3 if it was moved
--        without a job, because the task or the queue is paused}
-- repeat moves nothing: the dues have moved already
local event_rows = arg()
call('LLEN', ready)
call('LLEN', wake)
local moved, is_something_queued = {}, false
local has_pauses = call('HEXISTS', control, ' pauses') == 1

local function is_paused(task)
  return has_pauses and (call('HEXISTS', pauses, '*') == 1 or call('HEXISTS', pauses, task) == 1)
end

while position < #ARGV do
  local task, due, next_due, id, envelope, may_overlap = arg(), arg(), arg(), arg(), arg(), arg()
  local current = call('ZSCORE', periodic, task)
  if current and tonumber(current) == tonumber(due) then -- guard: due
    local is_skipped = id ~= '' and is_paused(task) -- guard: paused tick
    if is_skipped then
      id = ''
    end
    local before = may_overlap ~= '1' and id ~= '' and call('HGET', control, ' @' .. task)
    local is_overlapping = before and before ~= id and call('HEXISTS', jobs, before) == 1 -- guard: tick before
    if is_overlapping then
      id = ''
    end
    if id ~= '' and call('HEXISTS', jobs, id) == 0 then -- guard: new tick
      call('RPUSH', ready, id)
      call('HSET', jobs, id, envelope)
      call('HSET', control, ' @' .. task, id)
      is_something_queued = true
      if event_rows ~= '0' then
        local row = '-\nscheduled ' .. task .. ' 0 ' .. id
        redis.pcall('XADD', events, 'MAXLEN', '~', event_rows, '*', 'e', row)
      end
    end
    call('ZADD', periodic, next_due, task)
    moved[#moved + 1] = is_skipped and 3 or is_overlapping and 2 or 1
  else
    moved[#moved + 1] = 0
  end
end
if is_something_queued then
  notify()
end
return {now, moved}
