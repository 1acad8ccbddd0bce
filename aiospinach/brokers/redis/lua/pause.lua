#!lua flags=allow-oom
-- Pauses a task or the queue, or ends its pause.
-- KEYS   ready slots control lanes open wake pauses
-- needs  chunks task_of gates lanes pausing resuming notify
-- ARGV   'pause' or 'resume'; task, or '*' for the queue; to pause: end (ms; 0: none), and by whom and why
-- answer {now, 1 if it was paused before, else 0}
-- repeat pauses it again, with the same end, or returns 0
local action, name = arg(), arg()
local was_paused = call('HEXISTS', pauses, name)
call('SCARD', open)
call('LLEN', wake)
if action == 'pause' then
  local ends, why = tonumber(arg()), arg()
  pause(name, ends, why)
  if ends > 0 then
    notify(true)
  end
elseif was_paused == 1 then
  resume(name)
  if something_to_run() then
    notify()
  end
end
return {now, was_paused}
