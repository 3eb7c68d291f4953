-- The dialback passphrase: the settings name a file beside the data, and its content becomes
-- mod_dialback's secret. mod_dialback keeps its secret over a reload, so it is loaded anew.

local configmanager = require "core.configmanager"
local modulemanager = require "core.modulemanager"

local in_use
local passphrase = { problem = nil }

local function read(path)
	local handle = io.open(path, "r")
	local line = handle and handle:read("l")
	if handle then handle:close() end
	return line ~= "" and line or nil
end

local function load_dialback_anew()
	for host, session in pairs(prosody.hosts) do
		if session.modules and session.modules.dialback then
			modulemanager.unload(host, "dialback")
			modulemanager.load(host, "dialback")
		end
	end
end

-- Called whenever the settings may have changed. `again`: the configuration was read anew.
function passphrase.use(folder, name, again)
	if name == in_use and not again then return end
	local secret = name and read(folder .. "/" .. name)
	passphrase.problem = name and not secret and ("the passphrase file %s cannot be read"):format(name) or nil
	if passphrase.problem or (not secret and not in_use) then return end
	configmanager.set("*", "dialback_secret", secret)
	in_use = name
	load_dialback_anew()
end

return passphrase
