#!lua flags=no-writes
-- Reads events.
-- KEYS   events steps
-- needs  streams
-- ARGV   id of the row after which they are wanted (empty: from the oldest on), 1 if that row is wanted as well, how many
--        rows at most; id after which steps are wanted (empty: none)
-- answer {now, id of the latest row that there ever was, '', id of the latest step, id and text of each row, and of each
--        step}; or with 'lost' instead of '' if rows behind the id were trimmed. If there is no row of the id, the store has
--        gone back to an earlier state: it is 'back', behind the id of the last row before
-- repeat reads again
local after, with_first, count, after_step = arg(), arg() == '1', arg(), arg()

local function parts_of(id)
  local moment, number = string.match(id, '^(%d+)%-(%d+)$')
  return tonumber(moment), tonumber(number)
end

local function is_before(one, other)
  local first, first_number = parts_of(one)
  local second, second_number = parts_of(other)
  return first < second or first == second and first_number < second_number
end

local function rows_from(stream, from)
  return flat(call('XRANGE', stream, from, '+', 'COUNT', count) or {}) -- nothing, if count is 0
end

local last_step = facts_of(steps)
local new_steps = after_step == '' and {} or rows_from(steps, '(' .. after_step)
local last, facts = facts_of(events)
local oldest = facts['first-entry']
local is_trimmed = oldest and facts['entries-added'] > facts['length']
if after ~= '' and is_trimmed and is_before(after, oldest[1]) then -- guard: trimmed events
  return {now, last, 'lost', last_step, {}, new_steps}
end
if after ~= '' and after ~= '0-0' and after ~= last then
  -- A new master may have rows with greater ids as well: an id that is not the latest one proves nothing.
  local before = call('XREVRANGE', events, after, '-', 'COUNT', 1)[1]
  if not before or before[1] ~= after then -- guard: store that has gone back
    return {now, before and before[1] or '0-0', 'back', last_step, {}, new_steps}
  end
end
local rows = rows_from(events, after == '' and '-' or with_first and after or '(' .. after)
return {now, last, '', last_step, rows, new_steps}
