-- The life of a stream: establishment timeout, keep-alive, inactivity.
--
-- Keep-alive on: after `keep_alive_interval` without anything sent, one space. Keep-alive off: none,
-- and after `stream_inactivity_timeout` without a stanza in either direction the stream is closed.

local filters = require "util.filters"
local monotonic = require "util.time".monotonic

local sessions = module:shared("/*/s2s/sessions")
local streams, settings

local function touch_on(session, event, field)
	filters.add_filter(session, event, function(data)
		session[field] = monotonic()
		return data
	end)
end

local function on_created(event)
	local session = event.session
	local now = monotonic()
	session.partner_last_stanza, session.partner_last_sent = now, now
	touch_on(session, "stanzas/in", "partner_last_stanza")
	touch_on(session, "stanzas/out", "partner_last_stanza")
	touch_on(session, "bytes/out", "partner_last_sent")
	local current = settings()
	if not current then return end
	module:add_timer(current.stream_establishment_timeout, function()
		if not session.destroyed and session.type ~= "s2sin" and session.type ~= "s2sout" then
			streams.refuse(session, "The stream was not established in time", "connection-timeout")
		end
	end)
end

local function look_after(session, current, now)
	local partner = streams.partner_of(session)
	if not partner or not session.partner_last_stanza then return end
	if partner.keep_alive then
		if now - session.partner_last_sent >= current.keep_alive_interval then session.sends2s(" ") end
	elseif now - session.partner_last_stanza >= current.stream_inactivity_timeout then
		session:close({ condition = "connection-timeout", text = "The stream was idle" }, nil, "The stream was idle")
	end
end

-- Prosody's own keep-alive: its read timeout sends a space unless a hook says otherwise.
local function on_read_timeout(event)
	local partner = streams.partner_of(event.session)
	if partner and not partner.keep_alive then return false end
end

local upkeep = {}

function upkeep.attach(m)
	m:hook("s2s-read-timeout", on_read_timeout, 10)
end

-- Called once a second.
function upkeep.tick()
	local current = settings()
	if not current then return end
	local now, open = monotonic(), {}
	for _, session in pairs(sessions) do
		if session.type == "s2sin" or session.type == "s2sout" then open[#open + 1] = session end
	end
	for _, session in ipairs(open) do look_after(session, current, now) end
end

function upkeep.start(the_streams, the_settings)
	streams, settings = the_streams, the_settings
	module:hook("s2s-created", on_created)
end

return upkeep
