-- What this server does not enforce although the set asks for it, and what is wrong with its
-- configuration. Nobody shall believe in a rule that nothing enforces.

local configmanager = require "core.configmanager"
local array = require "util.array"

local honesty = {}

local function option(name, default)
	local value = configmanager.get("*", name)
	if value == nil then return default end
	return value
end

-- The defaults of mod_s2s became strict with Prosody 13.
local function refuses_dialback()
	return option("s2s_secure_auth", not prosody.version:match("^0%."))
end

local function demands_tls()
	return option("s2s_require_encryption", true)
end

local function everywhere(name)
	for _, host in pairs(prosody.hosts) do
		if host.modules and host.modules.s2s and not host.modules[name] then return false end
	end
	return true
end

-- `mark`: which partners it concerns; none for a setting.
local function unenforced_property(list, set, property, reason, mark)
	local count, examples = 0, {}
	if mark then
		count, examples = set:census(mark)
		if count == 0 then return end
	end
	list[#list + 1] = { property = property, reason = reason, partners = count, examples = array(examples) }
end

local function about_partners(list, set)
	if refuses_dialback() then
		unenforced_property(list, set, "dialback_enabled", "s2s_secure_auth is on, so dialback is refused for everybody", "dialback")
	elseif not everywhere("dialback") then
		unenforced_property(list, set, "dialback_enabled", "mod_dialback is not loaded on every host", "dialback")
	end
	if demands_tls() then
		unenforced_property(list, set, "tls_negotiation", "s2s_require_encryption is on, so TLS is required for everybody", "without_tls")
	end
end

local function about_settings(list, set, passphrase_problem)
	local settings = set.settings
	unenforced_property(list, set, "federation_settings.subscription_refresh_interval", "Prosody does not refresh subscriptions")
	if settings.message_body_logging_enabled then
		unenforced_property(list, set, "federation_settings.message_body_logging_enabled", "Prosody does not log message bodies")
	end
	if settings.stream_establishment_timeout > option("s2s_timeout", 90) then
		unenforced_property(list, set, "federation_settings.stream_establishment_timeout", "s2s_timeout in the configuration is shorter")
	end
	if passphrase_problem then
		unenforced_property(list, set, "federation_settings.dialback_passphrase", passphrase_problem)
	end
end

local function is_failing_closed()
	for _, name in ipairs(option("modules_disabled", {})) do
		if name == "s2s" then return true end
	end
	return false
end

-- Two lists: properties that are not enforced, and warnings.
function honesty.report(set, passphrase_problem)
	local unenforced, warnings = {}, {}
	if set.settings then
		about_partners(unenforced, set)
		about_settings(unenforced, set, passphrase_problem)
	end
	if not is_failing_closed() then
		warnings[#warnings + 1] = "modules_disabled does not contain \"s2s\": "
			.. "should this module fail to load, Prosody federates with everybody"
	end
	return unenforced, warnings
end

return honesty
