-- Gates hold jobs back. Each task is a gate, which lets through as many jobs as the limit of the task.
-- The hash control has a field for each task, with these words:
--   limit (0: none), moment since when it holds, day when a worker had the task last, name of that worker
--   '+<moment>' as the last word, while the jobs that ran before the task had a limit are counted
-- It has these fields for the queue, whose names begin with a space:
--   ' epoch'    a moment that grows with each change; if it is earlier or missing, the store has lost changes
--   ' limits'   there are limits
--   ' lanes'    a gate holds jobs back
--   ' cancels'  a job was cancelled while it ran or lay in a line: cancels has its id
--   ' pauses'   a task or the queue is paused: pauses has its name, or '*' for the queue
-- A job that a gate holds back moves to lanes once, as '<gate>\n<turn>\n<id>'. open has the gates that may let a job
-- through.
local stored_epoch, has_limits, has_lanes, has_cancels, has_pauses =
  unpack(call('HMGET', control, ' epoch', ' limits', ' lanes', ' cancels', ' pauses'))
local is_queue_paused = has_pauses and call('HEXISTS', pauses, '*') == 1

local function moment_of(text) -- 0 if it is missing or malformed
  return text and #text < 15 and string.find(text, '^%d+$') and tonumber(text) or 0
end

local function limit_in(entry)
  return moment_of(entry and string.match(entry, '^(%S+) '))
end

-- The worker that counts may be lost. So after a minute the limit holds with the jobs that were counted.
local COUNTED_WITHIN = 60000

local limits, room, count_pending = {}, {}, {}

-- Returns how many more jobs of a task may run.
local function room_of(task)
  if not room[task] then
    local entry = has_limits and call('HGET', control, task)
    local limit = limit_in(entry)
    limits[task] = limit > 0
    if is_queue_paused or has_pauses and call('HEXISTS', pauses, task) == 1 then -- guard: paused task
      room[task] = 0
    elseif limit == 0 then
      room[task] = math.huge
    elseif now - moment_of(string.match(entry, ' %+(%d+)$')) < COUNTED_WITHIN then -- guard: being counted
      room[task] = 0
      count_pending[task] = true
    else
      room[task] = limit - call('ZLEXCOUNT', slots, '[' .. task .. '\n', '(' .. task .. '\n\255')
    end
  end
  return room[task]
end

-- Returns the first entries of a gate's lane.
local function first_in_lane(gate, count)
  return call('ZRANGEBYLEX', lanes, '[' .. gate .. '\n', '(' .. gate .. '\n\255', 'LIMIT', 0, count)
end

local GATES_AT_ONCE = 100

local function open_gates()
  return has_lanes and call('SRANDMEMBER', open, GATES_AT_ONCE) or {}
end

local function is_lane_to_run()
  for _, gate in ipairs(open_gates()) do
    if room_of(gate) > 0 then
      return true
    end
  end
  return false
end

local function something_to_run()
  if is_queue_paused then -- guard: nothing of a paused queue
    return false
  end
  return call('LLEN', ready) > 0 or is_lane_to_run()
end
