# Which NICs an appliance has, and what each lets in and out.

locals {
  subnets = { public = var.public_subnet_id, private = var.private_subnet_id }
  nics    = [for nic in ["public", "private"] : nic if local.subnets[nic] != ""]

  # The two rules that matter are people and targets. By itself Azure lets in whatever is in the VNet, and out whatever goes
  # there or to the internet: vnet-in and out end that. A VM tells the platform that it is ready, and asks it for names.
  people = [
    { name = "people", priority = 100, direction = "Inbound", access = "Allow", protocol = "*", source = "Internet", destination = "*", ports = ["443"] },
    { name = "vnet-in", priority = 4000, direction = "Inbound", access = "Deny", protocol = "*", source = "VirtualNetwork", destination = "*", ports = ["0-442", "444-65535"] },
  ]
  nobody = [
    { name = "vnet-in", priority = 4000, direction = "Inbound", access = "Deny", protocol = "*", source = "*", destination = "*", ports = ["0-65535"] },
  ]
  targets = [
    { name = "targets", priority = 100, direction = "Outbound", access = "Allow", protocol = "Tcp", source = "*", destination = "VirtualNetwork", ports = concat(["22", "3389"], [for url in [var.store_url] : tostring(var.store_port) if url != ""]) },
    { name = "names", priority = 110, direction = "Outbound", access = "Allow", protocol = "Udp", source = "*", destination = "VirtualNetwork", ports = ["53"] },
  ]
  services = concat(
    [{ name = "platform", priority = 120, direction = "Outbound", access = "Allow", protocol = "Tcp", source = "*", destination = "168.63.129.16", ports = ["80", "32526"] }],
    [for i, network in var.service_networks : { name = "service-${i}", priority = 200 + i, direction = "Outbound", access = "Allow", protocol = "Tcp", source = "*", destination = network, ports = ["443"] }],
    [{ name = "out", priority = 4000, direction = "Outbound", access = "Deny", protocol = "*", source = "*", destination = "*", ports = ["0-65535"] }],
  )

  # With one NIC it has all of them.
  rules = {
    public  = concat(local.people, [for rule in local.targets : rule if length(local.nics) == 1], local.services)
    private = concat(local.nobody, local.targets, local.services)
  }
}
