# Appliances behind a load balancer, in subnets that are there.

terraform {
  required_version = ">= 1.9"
  required_providers {
    azurerm = {
      source  = "hashicorp/azurerm"
      version = "~> 4.55"
    }
    random = {
      source  = "hashicorp/random"
      version = "~> 3.6"
    }
  }
}

provider "azurerm" {
  features {}
}

resource "random_string" "suffix" {
  length  = 8
  special = false
  upper   = false
}

# Azure wants an account for each VM. The appliance has none, and no program that would ask for it.
resource "random_password" "unused" {
  length = 32
}

resource "azurerm_resource_group" "this" {
  name     = var.name
  location = var.location
}

resource "azurerm_public_ip" "this" {
  name                = var.name
  resource_group_name = azurerm_resource_group.this.name
  location            = azurerm_resource_group.this.location
  allocation_method   = "Static"
  sku                 = "Standard"
  zones               = var.zones
}

resource "azurerm_lb" "this" {
  name                = var.name
  resource_group_name = azurerm_resource_group.this.name
  location            = azurerm_resource_group.this.location
  sku                 = "Standard"

  frontend_ip_configuration {
    name                 = "public"
    public_ip_address_id = azurerm_public_ip.this.id
  }
}

resource "azurerm_lb_backend_address_pool" "this" {
  name            = "appliances"
  loadbalancer_id = azurerm_lb.this.id
}

# An appliance whose port answers is asked to take people. Azure does not say whether its HTTPS probe speaks TLS 1.3,
# which is all that the appliance speaks.
resource "azurerm_lb_probe" "this" {
  name                = "https"
  loadbalancer_id     = azurerm_lb.this.id
  protocol            = "Tcp"
  port                = 443
  interval_in_seconds = 5
  probe_threshold     = 2
}

# Somebody whose UDP is blocked in the midst of things goes on over TCP, with the same appliance: who has the flow.
resource "azurerm_lb_rule" "this" {
  for_each                       = toset(["Tcp", "Udp"])
  name                           = lower(each.key)
  loadbalancer_id                = azurerm_lb.this.id
  frontend_ip_configuration_name = "public"
  backend_address_pool_ids       = [azurerm_lb_backend_address_pool.this.id]
  probe_id                       = azurerm_lb_probe.this.id
  protocol                       = each.key
  frontend_port                  = 443
  backend_port                   = 443
  idle_timeout_in_minutes        = var.idle_minutes
  load_distribution              = "SourceIP"
}

resource "azurerm_network_security_group" "this" {
  for_each            = toset(local.nics)
  name                = "${var.name}-${each.key}"
  resource_group_name = azurerm_resource_group.this.name
  location            = azurerm_resource_group.this.location

  dynamic "security_rule" {
    for_each = local.rules[each.key]
    content {
      name                       = security_rule.value.name
      priority                   = security_rule.value.priority
      direction                  = security_rule.value.direction
      access                     = security_rule.value.access
      protocol                   = security_rule.value.protocol
      source_port_range          = "*"
      destination_port_ranges    = security_rule.value.ports
      source_address_prefix      = security_rule.value.source
      destination_address_prefix = security_rule.value.destination
    }
  }
}

resource "azurerm_orchestrated_virtual_machine_scale_set" "this" {
  name                        = var.name
  resource_group_name         = azurerm_resource_group.this.name
  location                    = azurerm_resource_group.this.location
  platform_fault_domain_count = 1
  zones                       = var.zones
  sku_name                    = var.size
  instances                   = var.instances
  source_image_id             = local.image_id
  user_data_base64            = base64encode(local.document)
  upgrade_mode                = "Manual" # a rolling one wants an agent in the VM that reports health

  os_profile {
    linux_configuration {
      admin_username                  = "unused"
      admin_password                  = random_password.unused.result
      disable_password_authentication = false
      provision_vm_agent              = false
    }
  }

  os_disk {
    caching              = "ReadWrite"
    storage_account_type = "StandardSSD_LRS"
    disk_size_gb         = 4
  }

  dynamic "network_interface" {
    for_each = local.nics
    content {
      name                          = network_interface.value
      primary                       = network_interface.value == "public"
      enable_accelerated_networking = true
      network_security_group_id     = azurerm_network_security_group.this[network_interface.value].id

      ip_configuration {
        name                                   = network_interface.value
        primary                                = true
        subnet_id                              = local.subnets[network_interface.value]
        load_balancer_backend_address_pool_ids = network_interface.value == "public" ? [azurerm_lb_backend_address_pool.this.id] : []
      }
    }
  }

  boot_diagnostics {} # the serial console, on which the appliance says what it does

  lifecycle {
    precondition {
      condition     = length(local.document) <= 48 * 1024
      error_message = "The configuration and its files are longer than the 48 KiB that Azure takes as user data."
    }
  }
}
