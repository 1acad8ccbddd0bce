#!lua flags=allow-oom
-- Stores how far running jobs have come. progress has '<moment> <step>' by lease, and the stream steps tells readers that
-- wait of it, in the form of a row of events: progress <task> <id> <step>
-- KEYS   leases progress steps
-- needs  chunks task_of headers
-- ARGV   1 if events are kept, name of the worker, then for each job: lease, task, step
-- answer {now}
-- repeat stores the same again
local has_events, worker = arg() == '1', arg()
local names, tasks, texts, STEPS_KEPT = {}, {}, {}, 100
while position < #ARGV do
  names[#names + 1], tasks[#tasks + 1], texts[#texts + 1] = arg(), arg(), arg()
end
call('HLEN', progress)
local fields, lines = {}, {worker}
for number, score in ipairs(read_in_chunks('ZMSCORE', leases, names)) do
  if score then -- guard: progress of a lease
    fields[#fields + 1] = names[number]
    fields[#fields + 1] = string.format('%.0f', now) .. ' ' .. texts[number]
    lines[#lines + 1] = 'progress ' .. tasks[number] .. ' ' .. id_of(names[number]) .. ' ' .. texts[number]
  end
end
call_in_chunks('HSET', progress, fields)
if has_events and #fields > 0 then
  redis.pcall('XADD', steps, 'MAXLEN', '~', STEPS_KEPT, '*', 'e', table.concat(lines, '\n'))
end
return {now}
