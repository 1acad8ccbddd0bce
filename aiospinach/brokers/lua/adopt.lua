#!lua flags=allow-oom
-- Counts what runs already towards the first limit of its task, a page of leases a call. None of its jobs is leased until
-- the last page.
-- KEYS   ready jobs leases slots control lanes open wake
-- needs  lists envelopes gates wake
-- ARGV   cursor of the page, then the tasks
-- answer {now, cursor of the next page, or '0'}
-- repeat counts the same again
local PAGE = 500
local page = call('ZSCAN', leases, arg(), 'COUNT', PAGE)
local tasks, is_adopted = {}, {}
while position < #ARGV do
  tasks[#tasks + 1] = arg()
  is_adopted[tasks[#tasks]] = true
end
for number = 1, #page[2], 2 do
  local lease = page[2][number]
  local id = id_of(lease)
  local envelope = id and call('HGET', jobs, id)
  local task = envelope and task_of(envelope)
  if is_adopted[task or ''] then -- guard: adopted lease
    call('ZADD', slots, 0, task .. '\n' .. lease)
  end
end
if page[1] == '0' then
  for _, task in ipairs(tasks) do
    local entry = call('HGET', control, task)
    call('HSET', control, task, (string.gsub(entry or '', ' %+$', '')))
    open_up(task)
  end
  if something_to_run() then
    arm()
  end
end
return {now, page[1]}
