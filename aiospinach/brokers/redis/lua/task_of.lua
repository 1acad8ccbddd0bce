-- Finds the task of a job in its envelope. An envelope has a static line, which is the same for all jobs of a task, a variable line,
-- which scripts rewrite, and a body, which no script reads.
--   2 task max_retries priority flags
--   at retries crashes parked created expires key unique error
-- The word error is missing until the job is tried again. Words after it are kept. A dash is an empty word.
local LAST_MOMENT = 253370764800000 -- the year 9999

local LONGEST_HEADER = 500 -- of both lines, as we write them
local MOST_DIGITS = 15 -- Lua writes a longer number as a power of ten
local ID = '^[!-~]+$' -- we write no other ids

local statics = {} -- static line -> its task, or false if it is malformed: each line is parsed once a call

local function task_of_static(line)
  local task, most = string.match(line .. ' ', '^2 ([%w_.:@-]+) (%d+) %-?%d+ [%w-]+ ')
  return task and #most <= MOST_DIGITS and task or false
end

local SIXTEEN_DIGITS = string.rep('%d', MOST_DIGITS + 1)
local last_static, length_of_static, last_task = '\n', 1, nil -- the static line read last, with its newline
-- Jobs of a batch have the same header. So headers are compared with the first one, until one differs.
local are_alike, first_header, length_of_header = true, nil, 0

-- Returns the task of a job and where its variable line begins; nil if the header cannot be read.
local function task_of(envelope)
  if are_alike and string.sub(envelope, 1, length_of_header) == first_header then
    return last_task, length_of_static + 1
  end
  are_alike = are_alike and not first_header
  if string.sub(envelope, 1, length_of_static) ~= last_static then -- most jobs have the static line of the job before
    local first = string.find(envelope, '\n', 1, true)
    if not first or first > LONGEST_HEADER then
      return nil
    end
    local static = string.sub(envelope, 1, first)
    local task = statics[static]
    if task == nil then
      task = task_of_static(string.sub(static, 1, -2))
      statics[static] = task
    end
    if not task then
      return nil
    end
    last_static, length_of_static, last_task = static, first, task
  end
  local first = length_of_static + 1
  local _, last, end_of_numbers = string.find(envelope, '^%d+ %d+ %d+ %d+() %C*\n', first)
  if not last or last > LONGEST_HEADER then
    return nil
  end
  -- In a short line, the other numbers and the spaces leave room for 15 digits at most.
  local is_short = end_of_numbers - first <= MOST_DIGITS + 6
  if not is_short and string.find(string.sub(envelope, first, end_of_numbers - 1), SIXTEEN_DIGITS) then
    return nil
  end
  if are_alike then
    first_header, length_of_header = string.sub(envelope, 1, last), last
  end
  return last_task, first
end
