modules_enabled = {
  "s2s_whitelist"; -- only these
}
s2s_whitelist = {
  "contoso.com"; -- "not-this.example"
  'fabrikam.com',
  "*.org";
}
VirtualHost "example.com"
