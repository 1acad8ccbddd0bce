-- What is written on an envelope.
local LAST_MOMENT = 253370764800000 -- the year 9999

local LONGEST_HEADER = 500 -- that we write; the numbers in a longer one may be more than anybody can read
local ID = '^[!-~]+$' -- another id is none that we wrote

-- The header of an envelope: version retries max_retries crashes parked_at limit_key task at. What follows,
-- later fields and the body, begins at the position that comes last, and is never looked into.
local function header(envelope)
  local line = string.match(string.sub(envelope, 1, LONGEST_HEADER + 1), '^[^\n]*')
  local retries, most, crashes, parked, key, task, at, rest =
    string.match(line, '^1 (%d+) (%d+) (%d+) (%d+) (%S+) ([%w_.:@-]+) (%d+)()')
  if not task or #line > LONGEST_HEADER or not string.find(line, '^ ', rest) and rest <= #line or
    #retries > 15 or #crashes > 15 or -- one more would be written as a power of ten
    tonumber(parked) >= LAST_MOMENT or tonumber(at) >= LAST_MOMENT then
    return nil
  end
  return task, retries, most, crashes, parked, key, at, rest
end

-- The envelope with another header; nil keeps what is there.
local function rewritten(envelope, new)
  local task, retries, most, crashes, parked, key, at, rest = header(envelope)
  at = new.at and string.format('%.0f', new.at) or at -- Lua itself writes 15 digits as a power of ten
  return table.concat({'1', new.retries or retries, most, new.crashes or crashes, new.parked or parked, key,
    task, at}, ' ') .. string.sub(envelope, rest)
end

local function id_of(lease)
  return string.match(lease, '^(.*):[^:]*$')
end
