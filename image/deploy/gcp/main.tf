# Appliances behind a passthrough network load balancer, in networks that are there.

terraform {
  required_version = ">= 1.9"
  required_providers {
    google = {
      source  = "hashicorp/google"
      version = "~> 6.50"
    }
    random = {
      source  = "hashicorp/random"
      version = "~> 3.6"
    }
  }
}

provider "google" {
  project = var.project
  region  = var.region
}

locals {
  networks    = { public = var.public_network, private = var.private_network }
  subnetworks = { public = var.public_subnetwork, private = var.private_subnetwork }
  nics        = [for nic in ["public", "private"] : nic if local.networks[nic] != ""]
  targets     = local.networks[element(local.nics, length(local.nics) - 1)]

  # Who asks whether an appliance answers: the probes of a passthrough load balancer.
  probes = ["35.191.0.0/16", "209.85.152.0/22", "209.85.204.0/22"]
}

# The load balancer keeps people's addresses, so the appliances let in the whole internet, on one port.
resource "google_compute_firewall" "people" {
  name          = "${var.name}-people"
  network       = var.public_network
  direction     = "INGRESS"
  source_ranges = concat(["0.0.0.0/0"], local.probes)
  target_tags   = [var.name]

  dynamic "allow" {
    for_each = ["tcp", "udp"]
    content {
      protocol = allow.value
      ports    = ["443"]
    }
  }
}

resource "google_compute_firewall" "targets" {
  name               = "${var.name}-targets"
  network            = local.targets
  direction          = "EGRESS"
  priority           = 1000
  destination_ranges = var.target_networks
  target_tags        = [var.name]

  allow {
    protocol = "tcp"
    ports    = concat(["22", "3389"], [for url in [var.store_url] : tostring(var.store_port) if url != ""])
  }
}

resource "google_compute_firewall" "services" {
  for_each           = toset([for networks in [var.service_networks] : "https" if length(networks) > 0])
  name               = "${var.name}-services"
  network            = local.targets
  direction          = "EGRESS"
  priority           = 1000
  destination_ranges = var.service_networks
  target_tags        = [var.name]

  allow {
    protocol = "tcp"
    ports    = ["443"]
  }
}

# By itself everything may go out. Answers to people are no new connections, and the metadata server, which resolves
# names too, is always reached.
resource "google_compute_firewall" "closed" {
  for_each           = toset(local.nics)
  name               = "${var.name}-closed-${each.key}"
  network            = local.networks[each.key]
  direction          = "EGRESS"
  priority           = 65000
  destination_ranges = ["0.0.0.0/0"]
  target_tags        = [var.name]

  deny {
    protocol = "all"
  }
}

resource "google_compute_instance_template" "this" {
  name_prefix  = "${var.name}-"
  machine_type = var.machine_type
  tags         = [var.name]

  metadata = {
    user-data                  = local.document
    serial-port-logging-enable = "FALSE" # the console may show a code, which no log is to keep; it can be read without
  }

  disk {
    source_image = local.image
    boot         = true
    auto_delete  = true
    disk_type    = "pd-balanced"
    disk_size_gb = 10
  }

  dynamic "network_interface" {
    for_each = local.nics
    content {
      subnetwork = local.subnetworks[network_interface.value]
      nic_type   = "GVNIC"
    }
  }

  shielded_instance_config {
    enable_vtpm                 = true
    enable_integrity_monitoring = false
    enable_secure_boot          = var.secure_boot_certificate != ""
  }

  lifecycle {
    create_before_destroy = true

    precondition {
      condition     = strcontains(local.document, var.address)
      error_message = "The configuration does not have the address: give it as listen.balanced."
    }

    precondition {
      condition     = length(local.document) <= 256 * 1024
      error_message = "The configuration and its files are longer than the 256 KiB that Google takes as one metadata value."
    }
  }
}

data "google_compute_zones" "this" {}

# An appliance whose port answers is asked to take people.
resource "google_compute_region_health_check" "this" {
  name                = var.name
  check_interval_sec  = 5
  healthy_threshold   = 2
  unhealthy_threshold = 2

  tcp_health_check {
    port = 443
  }
}

resource "google_compute_region_instance_group_manager" "this" {
  name               = var.name
  base_instance_name = var.name
  target_size        = var.instances

  version {
    instance_template = google_compute_instance_template.this.self_link
  }

  # Another image or configuration: a new appliance in each zone first, then the old ones go.
  update_policy {
    type                         = "PROACTIVE"
    minimal_action               = "REPLACE"
    instance_redistribution_type = "PROACTIVE"
    max_surge_fixed              = length(data.google_compute_zones.this.names)
    max_unavailable_fixed        = 0
  }

  auto_healing_policies {
    health_check      = google_compute_region_health_check.this.id
    initial_delay_sec = 120
  }
}

# Somebody whose UDP is blocked in the midst of things goes on over TCP, with the same appliance: who has the flow.
resource "google_compute_region_backend_service" "this" {
  name                            = var.name
  load_balancing_scheme           = "EXTERNAL"
  protocol                        = "UNSPECIFIED"
  session_affinity                = "CLIENT_IP"
  connection_draining_timeout_sec = 120
  health_checks                   = [google_compute_region_health_check.this.id]

  backend {
    group          = google_compute_region_instance_group_manager.this.instance_group
    balancing_mode = "CONNECTION"
  }
}

resource "google_compute_forwarding_rule" "this" {
  for_each              = toset(["TCP", "UDP"])
  name                  = "${var.name}-${lower(each.key)}"
  load_balancing_scheme = "EXTERNAL"
  ip_address            = var.address
  ip_protocol           = each.key
  ports                 = ["443"]
  backend_service       = google_compute_region_backend_service.this.id
}
