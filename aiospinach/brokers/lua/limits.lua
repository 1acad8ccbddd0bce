-- The limits that the script is given: task -> how many may run, and where the others queue. A task that
-- once had a limit has a lane still.
local limit_of, lane_of = {}, {}

local function read_limits()
  for number = 1, tonumber(arg()) do
    local task, limit = arg(), tonumber(arg())
    limit_of[task] = limit > 0 and limit or nil
    lane_of[task] = KEYS[FIRST_LANE - 1 + number]
  end
end

local function free_slots(task)
  if not limit_of[task] then
    return math.huge
  end
  return limit_of[task] - call('ZLEXCOUNT', slots, '[' .. task .. '\n', '(' .. task .. '\n\255')
end

local function something_to_run()
  if call('LLEN', ready) > 0 then
    return true
  end
  for task, lane in pairs(lane_of) do
    if call('LLEN', lane) > 0 and free_slots(task) > 0 then
      return true
    end
  end
  return false
end
