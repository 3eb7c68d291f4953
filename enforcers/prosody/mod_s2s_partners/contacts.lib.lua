-- Partner type PUBLIC_UNVERIFIED: its users reach only those who have them in their contact list.
--
-- Who has no such contact, and who does not exist, look the same from outside.

local jid_split = require "util.jid".split
local jid_bare = require "util.jid".bare
local load_roster = require "core.rostermanager".load_roster

local TEXT = "You are not in this user's contact list"
local EVENTS = { "message/bare", "message/full", "presence/bare", "presence/full", "iq/bare", "iq/full" }

local contacts = {}

function contacts.attach(m, streams)
	local function on_stanza(event)
		local stanza, origin = event.stanza, event.origin
		if not origin or (origin.type ~= "s2sin" and origin.type ~= "s2sout") then return end
		if stanza.attr.type == "error" or stanza.attr.type == "result" then return end
		local _, from_host = jid_split(stanza.attr.from)
		local partner = streams.partner_of { direction = "incoming", from_host = from_host }
		if partner and partner.partner_type ~= "PUBLIC_UNVERIFIED" then return end
		local user = jid_split(stanza.attr.to)
		local roster = user and load_roster(user, m.host)
		if partner and roster and roster[jid_bare(stanza.attr.from)] then return end
		streams.bounce(stanza, origin.send, TEXT)
		return true
	end
	for _, name in ipairs(EVENTS) do m:hook(name, on_stanza, 500) end
end

return contacts
