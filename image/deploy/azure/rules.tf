# Which NICs an appliance has, and what each lets in and out.

locals {
  subnets = { public = var.public_subnet_id, private = var.private_subnet_id }
  nics    = [for nic in ["public", "private"] : nic if local.subnets[nic] != ""]

  # The two rules that matter are people and targets. By itself Azure lets in and out whatever is in the VNet: the last of
  # each list ends that. A VM tells the platform that it is ready, and asks it for names.
  public_rules = [
    { name = "people", priority = 100, direction = "Inbound", access = "Allow", protocol = "*", source = "Internet", destination = "*", ports = ["443"] },
    { name = "vnet-in", priority = 4000, direction = "Inbound", access = "Deny", protocol = "*", source = "VirtualNetwork", destination = "*", ports = ["0-442", "444-65535"] },
  ]
  private_rules = [
    { name = "targets", priority = 100, direction = "Outbound", access = "Allow", protocol = "Tcp", source = "*", destination = "VirtualNetwork", ports = concat(["22", "3389"], [for url in [var.store_url] : tostring(var.store_port) if url != ""]) },
    { name = "names", priority = 110, direction = "Outbound", access = "Allow", protocol = "Udp", source = "*", destination = "VirtualNetwork", ports = ["53"] },
    { name = "platform", priority = 120, direction = "Outbound", access = "Allow", protocol = "Tcp", source = "*", destination = "168.63.129.16", ports = ["80", "32526"] },
    { name = "vnet-out", priority = 4000, direction = "Outbound", access = "Deny", protocol = "*", source = "*", destination = "VirtualNetwork", ports = ["0-65535"] },
  ]

  # With one NIC it has all of them.
  rules = {
    public  = concat(local.public_rules, [for rule in local.private_rules : rule if length(local.nics) == 1])
    private = local.private_rules
  }
}
