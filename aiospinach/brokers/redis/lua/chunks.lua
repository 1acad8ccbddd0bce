-- Commands with a list of any length: unpack is limited by the size of Lua's stack.
local CHUNK = 1000

local function chunked(command, key, list)
  for first = 1, #list, CHUNK do
    call(command, key, unpack(list, first, math.min(first + CHUNK - 1, #list)))
  end
end

local function looked_up(command, key, list)
  if #list > 0 and #list <= CHUNK then
    return call(command, key, unpack(list))
  end
  local found = {}
  for first = 1, #list, CHUNK do
    for _, value in ipairs(call(command, key, unpack(list, first, math.min(first + CHUNK - 1, #list)))) do
      found[#found + 1] = value
    end
  end
  return found
end
