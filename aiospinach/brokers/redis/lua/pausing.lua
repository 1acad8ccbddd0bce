-- Pauses tasks and the queue. A pause is in force as long as pauses has it. The field is the task, or '*' for the queue:
--   end (ms; 0: none) since when by reason
local function end_of(pause)
  return moment_of(string.match(pause, '^(%d+) '))
end

-- Pauses a task or the queue. why has by whom, and the reason. A pause that is replaced keeps its beginning.
local function pause(name, ends, why)
  local before = call('HGET', pauses, name)
  local since = before and string.match(before, '^%d+ (%d+) ') or string.format('%.0f', now)
  call('HSET', pauses, name, string.format('%.0f', ends) .. ' ' .. since .. ' ' .. why)
  call('HSET', control, ' pauses', 1)
  has_pauses, room[name] = '1', 0
end

-- Pauses a task, unless it is paused without an end, or until a later moment.
local function prolong_pause(task, ends, why)
  local before = call('HGET', pauses, task)
  local is_longer = before and (end_of(before) == 0 or end_of(before) >= ends) -- guard: longer pause
  if not is_longer then
    pause(task, ends, why)
  end
end
