-- Calls a command with a list of any length, in chunks: the size of Lua's stack limits unpack.
local CHUNK = 1000

local function call_in_chunks(command, key, list)
  for first = 1, #list, CHUNK do
    call(command, key, unpack(list, first, math.min(first + CHUNK - 1, #list)))
  end
end

local function read_in_chunks(command, key, list)
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
