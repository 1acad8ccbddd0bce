#!lua flags=no-writes
-- Reads events.
-- KEYS   events
-- ARGV   id of the row after which they are wanted (empty: from the oldest on), 1 if that row is wanted as well, how many
--        rows at most
-- answer {now, id of the latest row that there ever was, '', id and text of each row}; or with 'lost' instead of '' if rows
--        behind that id were trimmed, or 'back' if no such row was written: the store has gone back to an earlier state
-- repeat reads again
local after, with_first, count = arg(), arg() == '1', arg()

local function parts_of(id)
  local moment, number = string.match(id, '^(%d+)%-(%d+)$')
  return tonumber(moment), tonumber(number)
end

local function is_before(one, other)
  local first, first_number = parts_of(one)
  local second, second_number = parts_of(other)
  return first < second or first == second and first_number < second_number
end

local facts, info = {}, redis.pcall('XINFO', 'STREAM', events)
if info.err and call('EXISTS', events) == 1 then
  return info
end
for number = 1, info.err and 0 or #info, 2 do
  facts[info[number]] = info[number + 1]
end
local last, oldest = facts['last-generated-id'] or '0-0', facts['first-entry']
if after ~= '' and is_before(last, after) then -- guard: store that has gone back
  return {now, last, 'back'}
end
if after ~= '' and oldest and is_before(after, oldest[1]) and facts['entries-added'] > facts['length'] then -- guard: trimmed events
  return {now, last, 'lost'}
end
local from = after == '' and '-' or with_first and after or '(' .. after
local answer = {now, last, ''}
for _, row in ipairs(call('XRANGE', events, from, '+', 'COUNT', count) or {}) do -- nothing is asked of 0 rows
  answer[#answer + 1] = row[1]
  answer[#answer + 1] = row[2][1] == 'e' and row[2][2] or ''
end
return answer
