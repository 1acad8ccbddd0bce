#!lua flags=allow-oom
-- Moves a job that waits or is queued to another moment.
-- KEYS   ready jobs leases future cancels deadjobs control lanes wake
-- needs  task_of headers parking marks running notify
-- ARGV   'move', 'move again' or 'running'; id; moment (ms; 0: now)
-- answer {now, status}: where the job was. 'waiting' or 'queued': it was moved; 'running', 'failed' or 'not_set': it was
--        not. 'marked': too many jobs run for this script to search them. A caller that gets 'marked' searches the
--        leases, and sends 'running' if one is of the job, else 'move again'
-- repeat moves it again, to the same moment
local action, id, at = arg(), arg(), tonumber(arg())
local own_mark = string.format('later %.0f', at)
local due = at > 0 and at or now
call('LLEN', ready)
call('ZCARD', future)
call('LLEN', wake)
local envelope, mark = call('HGET', jobs, id), call('HGET', cancels, id)

local function unmark()
  if call('HDEL', cancels, id) == 1 and call('HLEN', cancels) == 0 then
    call('HDEL', control, ' cancels')
  end
end

local function set_mark(new)
  call('HSET', cancels, id, new)
  call('HSET', control, ' cancels', 1)
end

-- Moves the job to where it waits until it is due, or lets it keep its place in line.
local function move(is_in_line)
  local _, _, stored = header(envelope)
  if due > now or tonumber(stored) > now or not is_in_line then -- a job that is due keeps its moment
    call('HSET', jobs, id, rewritten(envelope, {at = due, parked = 0}))
  end
  if due > now and is_in_line then -- guard: moved in its line
    set_mark('later')
  elseif due > now then
    call('ZADD', future, due, id)
    notify(call('ZRANGE', future, 0, 0)[1] == id)
  else
    unmark()
    if not is_in_line then -- guard: due at once
      call('RPUSH', ready, id)
    end
    notify()
  end
end

if action == 'running' then
  if mark == own_mark then -- guard: own mark
    unmark()
  end
  return {now, 'running'}
end
local task, _, _, _, _, parked = header(envelope or '')
if not task then -- guard: moved job lives
  return {now, call('HEXISTS', deadjobs, id) == 1 and 'failed' or 'not_set'}
end
if is_cancelled(mark) then -- guard: cancelled before
  return {now, mark == 'gone' and 'running' or 'not_set'}
end
local is_parked = call('ZREM', lanes, parked_entry('?' .. task, parked, id)) == 1
if is_parked or call('ZREM', future, id) == 1 then
  move(false)
  return {now, 'waiting'}
end
if action == 'move again' then
  if not mark then -- guard: met meanwhile
    return {now, 'running'}
  end
elseif call('ZCARD', leases) > FEW then -- guard: many leases of others
  set_mark(own_mark)
  return {now, 'marked'}
elseif is_running(id) then -- guard: not a running job
  return {now, 'running'}
end
if action == 'move' or mark == own_mark then -- guard: last move
  move(true)
end
return {now, 'queued'}
