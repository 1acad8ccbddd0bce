#!lua flags=no-writes
-- Checks at one moment what seemed not to fit together, while the queue was read in pages.
-- KEYS   ready jobs leases slots future cancels dead deadjobs control lanes open pauses
-- needs  task_of headers gates marks
-- ARGV   'ids', cursor: a page of the ids of jobs; or the kind of a finding, and the items that may be wrong
-- answer {now, cursor of the next page, ids} to 'ids'; else {now, the items that are wrong}
-- repeat reads again
local PAGE = 1000
local kind = arg()

-- Returns how many members of a sorted set match a pattern, and pass a test.
local function count_matching(key, pattern, is_right)
  local cursor, count = '0', 0
  repeat
    local page = call('ZSCAN', key, cursor, 'MATCH', pattern, 'COUNT', PAGE)
    cursor = page[1]
    for place = 1, #page[2], 2 do
      count = count + (is_right(page[2][place]) and 1 or 0)
    end
  until cursor == '0'
  return count
end

local function escaped(id)
  return (string.gsub(id, '[%[%]%*%?\\]', '\\%0'))
end

local function count_in_line(id)
  return #call('LPOS', ready, id, 'COUNT', 0) + count_matching(lanes, '*\n' .. escaped(id), function(entry)
    return string.match(entry, '\n%d+\n(.*)$') == id
  end)
end

local function count_leases(id)
  return count_matching(leases, escaped(id) .. ':*', function(lease)
    return id_of(lease) == id
  end)
end

local function count_places(id)
  return count_in_line(id) + count_leases(id) + (call('ZSCORE', future, id) and 1 or 0)
end

-- Returns whether a job that is cancelled has left its id in line.
local function is_left_in_line(id)
  return is_cancelled(call('HGET', cancels, id)) and not call('ZSCORE', future, id) and count_leases(id) == 0
end

local function task_of_lease(lease)
  local envelope = call('HGET', jobs, id_of(lease) or '')
  return envelope and header(envelope)
end

local RECORDED = {lanes = lanes, cancels = cancels, pauses = pauses}

local is_wrong = {
  ['no job'] = function(id)
    return call('HEXISTS', jobs, id) == 0 and not is_left_in_line(id) and count_places(id) > 0
  end,
  ['no place'] = function(id)
    return call('HEXISTS', jobs, id) == 1 and count_places(id) == 0
  end,
  ['two places'] = function(id)
    return call('HEXISTS', jobs, id) == 1 and count_places(id) > 1
  end,
  ['slot without lease'] = function(slot)
    return call('ZSCORE', slots, slot) and not call('ZSCORE', leases, string.match(slot, '\n(.*)$') or '')
  end,
  ['lease without slot'] = function(lease)
    local task = call('ZSCORE', leases, lease) and task_of_lease(lease)
    local entry = task and call('HGET', control, task)
    local is_counted = limit_in(entry) > 0 and not string.find(entry, ' %+%d+$')
    return is_counted and not call('ZSCORE', slots, task .. '\n' .. lease)
  end,
  ['closed gate'] = function(task)
    return first_in_lane(task, 1)[1] and room_of(task) > 0 and call('SISMEMBER', open, task) == 0
  end,
  ['unrecorded'] = function(name)
    return call('EXISTS', RECORDED[name]) == 1 and not call('HGET', control, ' ' .. name)
  end,
  ['dead without record'] = function(id)
    return (call('ZSCORE', dead, id) and 1 or 0) ~= call('HEXISTS', deadjobs, id)
  end,
  ['stray mark'] = function(id)
    return call('HEXISTS', cancels, id) == 1 and count_in_line(id) + count_leases(id) == 0
  end,
}

if kind == 'ids' then
  local page, ids = call('HSCAN', jobs, arg(), 'COUNT', PAGE), {}
  for place = 1, #page[2], 2 do
    ids[#ids + 1] = page[2][place]
  end
  return {now, page[1], ids}
end
local wrong = {}
while position < #ARGV do
  local item = arg()
  if is_wrong[kind](item) then
    wrong[#wrong + 1] = item
  end
end
return {now, wrong}
