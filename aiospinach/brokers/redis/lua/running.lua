-- Returns whether a job has a lease. A script searches FEW leases at most.
local FEW = 1000

local function is_running(id)
  local cursor, pattern = '0', string.gsub(id, '[%[%]%*%?\\]', '\\%0') .. ':*'
  repeat
    local page = call('ZSCAN', leases, cursor, 'MATCH', pattern, 'COUNT', FEW)
    cursor = page[1]
    for number = 1, #page[2], 2 do
      if id_of(page[2][number]) == id then -- guard: whole id
        return true
      end
    end
  until cursor == '0'
  return false
end
