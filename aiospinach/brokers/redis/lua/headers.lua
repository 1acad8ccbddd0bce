-- What is written on an envelope: a static line, which all jobs of a task share; a variable line, which scripts rewrite;
-- and the body, which none looks into.
--   2 task max_retries priority flags
--   at retries crashes parked created expires key unique
-- Words that follow these are kept. A dash says that there is none.
local LAST_MOMENT = 253370764800000 -- the year 9999

local LONGEST_HEADER = 500 -- of both lines, as we write them
local MOST_DIGITS = 15 -- one more would be written as a power of ten
local ID = '^[!-~]+$' -- another id is none that we wrote

local statics = {} -- static line -> its task, or false: so many jobs share one that each is read once

local function task_of_static(line)
  local task, most = string.match(line .. ' ', '^2 ([%w_.:@-]+) (%d+) %-?%d+ [%w-]+ ')
  return task and #most <= MOST_DIGITS and task or false
end

-- The task of a job that can be read, or nil; and where its variable line begins.
local function task_of(envelope)
  local first = string.find(envelope, '\n', 1, true)
  if not first or first > LONGEST_HEADER then
    return nil
  end
  local line = string.sub(envelope, 1, first - 1)
  local task = statics[line]
  if task == nil then
    task = task_of_static(line)
    statics[line] = task
  end
  -- Places are asked for and not words: these differ from job to job, and would be made anew for each.
  local at, retries, crashes, parked, last = string.match(envelope, '^%d+() %d+() %d+() %d+() ?[^\n]*()\n', first + 1)
  if not task or not last or last > LONGEST_HEADER or at - first > MOST_DIGITS + 1 or retries - at > MOST_DIGITS + 1 or
    crashes - retries > MOST_DIGITS + 1 or parked - crashes > MOST_DIGITS + 1 then
    return nil
  end
  local after = string.byte(envelope, parked)
  if after ~= 32 and after ~= 10 then
    return nil
  end
  return task, first + 1
end

-- The words of a job that can be read: task, max_retries, at, retries, crashes, parked; or nil.
local function header(envelope)
  local task, first = task_of(envelope)
  if not task then
    return nil
  end
  local most = string.match(envelope, '^2 %S+ (%d+)')
  return task, most, string.match(envelope, '^(%d+) (%d+) (%d+) (%d+)', first)
end

-- The envelope with other words in its variable line; nil keeps what is there.
local function rewritten(envelope, new)
  local _, first = task_of(envelope)
  local at, retries, crashes, parked, rest = string.match(envelope, '^(%d+) (%d+) (%d+) (%d+)()', first)
  at = new.at and string.format('%.0f', new.at) or at -- Lua itself writes 15 digits as a power of ten
  return string.sub(envelope, 1, first - 1) .. table.concat({at, new.retries or retries, new.crashes or crashes,
    new.parked or parked}, ' ') .. string.sub(envelope, rest)
end

-- The envelope of a job that cannot run again: without its body, and with a word that says so.
local function bare(envelope)
  return string.match(envelope, '^[^\n]*\n[^\n]*') .. ' bare\n'
end

local function is_bare(envelope)
  return string.find(envelope, '^[^\n]*\n[^\n]* bare\n') ~= nil
end

-- The version of the format, if it is one that this release does not know.
local function foreign_version(envelope)
  local version = string.match(envelope, '^(%d%d?%d?) ')
  return version ~= '2' and version or nil
end

local function id_of(lease)
  return string.match(lease, '^(.*):[^:]*$')
end
