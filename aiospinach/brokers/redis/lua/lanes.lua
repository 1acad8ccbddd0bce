-- Holds jobs back in lanes, which gates.lua describes.
local FIRST_TURN = 50000000000000

-- Holds jobs back, at the end of the gate's lane or at its front.
local function hold_back(gate, ids, is_at_front)
  local turn
  if is_at_front then
    local first = string.match(first_in_lane(gate, 1)[1] or '', '\n(%d+)\n')
    turn = (tonumber(first) or FIRST_TURN) - #ids - 1
    call('HSET', control, ' lanes', 1)
  else
    turn = moment_of(call('HGET', control, ' turn'))
    turn = turn > 0 and turn or FIRST_TURN
    call('HSET', control, ' turn', string.format('%.0f', turn + #ids), ' lanes', 1)
  end
  has_lanes = '1'
  local entries = {}
  for number, id in ipairs(ids) do
    entries[2 * number - 1] = 0
    entries[2 * number] = gate .. '\n' .. string.format('%014.0f', turn + number) .. '\n' .. id
  end
  call_in_chunks('ZADD', lanes, entries)
end

-- Notes that a gate may let more jobs through.
local function open_up(gate)
  if has_lanes and first_in_lane(gate, 1)[1] then
    call('SADD', open, gate)
  end
end
