-- Reads and rewrites envelopes. An envelope has a static line, which is the same for all jobs of a task, a variable line,
-- which scripts rewrite, and a body, which no script reads.
--   2 task max_retries priority flags
--   at retries crashes parked created expires key unique error
-- The word error is missing until the job is tried again. Words after it are kept. A dash is an empty word.
local LAST_MOMENT = 253370764800000 -- the year 9999

local LONGEST_HEADER = 500 -- of both lines, as we write them
local MOST_DIGITS = 15 -- Lua writes a longer number as a power of ten
local LONGEST_TTL = 10 -- digits of the time for which a result is kept, in ms
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

-- Returns for how many ms the end of a job is kept, or 0, and the part of its stored end after the moment of the end.
local function kept_end(envelope)
  local task, first = task_of(envelope)
  local digits = string.match(envelope, '^2 %S+ %d+ %S+ %a*r(%d+)')
  local ttl = task and digits and #digits <= LONGEST_TTL and tonumber(digits) or 0 -- guard: malformed time of a result
  if ttl == 0 then
    return 0, ''
  end
  local at, created = string.match(envelope, '^(%d+) %d+ %d+ %d+ (%d*)', first)
  return ttl, (created ~= '' and created or at) .. ' ' .. task .. '\n'
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
