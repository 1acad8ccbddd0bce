-- Reads and rewrites envelopes, which task_of.lua describes.
local LONGEST_TTL = 10 -- digits of the time for which a result is kept, in ms

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
