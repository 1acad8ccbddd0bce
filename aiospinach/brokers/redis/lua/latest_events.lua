#!lua flags=no-writes
-- Reads the latest events.
-- KEYS   events
-- needs  streams
-- ARGV   id of the latest row that is wanted (empty: the latest one that there is), how many rows at most
-- answer {now, id of the oldest row that is kept if others before it were trimmed and else '', id and text of each row,
--        the latest first}
-- repeat reads again
local up_to, count = arg(), arg()
local _, facts = facts_of(events)
local is_trimmed = facts['first-entry'] and facts['entries-added'] > facts['length']
local rows = flat(call('XREVRANGE', events, up_to == '' and '+' or up_to, '-', 'COUNT', count) or {})
return {now, is_trimmed and facts['first-entry'][1] or '', rows}
