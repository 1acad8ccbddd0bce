#!lua flags=allow-oom
-- Gives a slot to each job that ran before its task had a limit. A call reads one page of leases. No job of the task is
-- leased until the last page.
-- KEYS   ready jobs leases slots control lanes open wake pauses
-- needs  chunks task_of headers gates lanes notify
-- ARGV   cursor of the page, then the tasks
-- answer {now, cursor of the next page, or '0'}
-- repeat gives the same slots again
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
    call('HSET', control, task, (string.gsub(entry or '', ' %+%d+$', '')))
    open_up(task)
  end
  if something_to_run() then
    notify()
  end
end
return {now, page[1]}
