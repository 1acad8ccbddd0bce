-- Streams: what is known of one, and its rows as answers hold them.

-- Returns the id of the latest row that there ever was, and other facts by their names; none, if there is no stream.
local function facts_of(stream)
  local facts, info = {}, call('EXISTS', stream) == 1 and call('XINFO', 'STREAM', stream) or {}
  for number = 1, #info, 2 do
    facts[info[number]] = info[number + 1]
  end
  return facts['last-generated-id'] or '0-0', facts
end

-- Returns the id and the text of each row.
local function flat(found)
  local rows = {}
  for _, row in ipairs(found) do
    rows[#rows + 1] = row[1]
    rows[#rows + 1] = row[2][1] == 'e' and row[2][2] or ''
  end
  return rows
end
