-- Reads and rewrites envelopes. An envelope has a static line, which is the same for all jobs of a task, a variable line,
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
local last_line -- the variable line read last: jobs of a batch have the same

local function is_variable_line(line)
  local _, last = string.find(line, '^%d+ %d+ %d+ %d+')
  local after = last and string.byte(line, last + 1)
  if not last or (after and after ~= 32) then
    return false
  end
  -- In a short line, the other numbers and the spaces leave room for 15 digits at most.
  return last <= MOST_DIGITS + 6 or not string.find(string.sub(line, 1, last), SIXTEEN_DIGITS)
end

-- Returns the task of a job and where its variable line begins; nil if the header cannot be read.
local function task_of(envelope)
  local first = string.find(envelope, '\n', 1, true)
  local last = first and string.find(envelope, '\n', first + 1, true)
  if not last or last > LONGEST_HEADER then
    return nil
  end
  local static, variable = string.sub(envelope, 1, first - 1), string.sub(envelope, first + 1, last - 1)
  local task = statics[static]
  if task == nil then
    task = task_of_static(static)
    statics[static] = task
  end
  if not task or (variable ~= last_line and not is_variable_line(variable)) then
    return nil
  end
  last_line = variable
  return task, first + 1
end

-- Returns task, max_retries, at, retries, crashes and parked of a job; nil if the header cannot be read.
local function header(envelope)
  local task, first = task_of(envelope)
  if not task then
    return nil
  end
  local most = string.match(envelope, '^2 %S+ (%d+)')
  return task, most, string.match(envelope, '^(%d+) (%d+) (%d+) (%d+)', first)
end

-- Returns the envelope with the new words in its variable line; nil keeps a word. The word created is a dash while it
-- equals at: the first rewriting of at writes it.
local function rewritten(envelope, new)
  local _, first = task_of(envelope)
  local at, retries, crashes, parked, rest = string.match(envelope, '^(%d+) (%d+) (%d+) (%d+)()', first)
  local dash = new.at and string.match(envelope, '^ %-()', rest)
  local created = dash and ' ' .. at or '' -- guard: moment of creation
  rest = dash or rest
  at = new.at and string.format('%.0f', new.at) or at -- Lua writes 15 digits as a power of ten
  return string.sub(envelope, 1, first - 1) .. table.concat({at, new.retries or retries, new.crashes or crashes,
    new.parked or parked}, ' ') .. created .. string.sub(envelope, rest)
end

-- Returns the envelope without its body, marked by the word 'bare': the job cannot run again.
local function bare(envelope)
  return string.match(envelope, '^[^\n]*\n[^\n]*') .. ' bare\n'
end

local function is_bare(envelope)
  return string.find(envelope, '^[^\n]*\n[^\n]* bare\n') ~= nil
end

-- Returns the version of the format if this release does not know it, else nil.
local function foreign_version(envelope)
  local version = string.match(envelope, '^(%d%d?%d?) ')
  return version ~= '2' and version or nil
end

local function id_of(lease)
  return string.match(lease, '^(.*):[^:]*$')
end
