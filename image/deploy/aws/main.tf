# Appliances behind a network load balancer, in subnets that are there.

terraform {
  required_version = ">= 1.9"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 6.25"
    }
  }
}

provider "aws" {
  region = var.region
}

locals {
  nics = [for nic in ["public", "private"] : nic if nic == "public" || anytrue([for zone in var.zones : zone.private_subnet != ""])]

  # With one NIC it is in both groups.
  groups = {
    public  = concat([aws_security_group.public.id], [for group in [aws_security_group.private.id] : group if length(local.nics) == 1])
    private = [aws_security_group.private.id]
  }
}

# The load balancer keeps people's addresses, so the appliances let in the whole internet, on one port.
resource "aws_security_group" "public" {
  name_prefix = "${var.name}-public-"
  description = "People who come to the appliance"
  vpc_id      = var.vpc_id
}

resource "aws_vpc_security_group_ingress_rule" "people" {
  for_each          = { for pair in setproduct(["tcp", "udp"], ["0.0.0.0/0", "::/0"]) : join(" ", pair) => pair }
  security_group_id = aws_security_group.public.id
  ip_protocol       = each.value[0]
  from_port         = 443
  to_port           = 443
  cidr_ipv4         = strcontains(each.value[1], ".") ? each.value[1] : null
  cidr_ipv6         = strcontains(each.value[1], ".") ? null : each.value[1]
}

resource "aws_security_group" "private" {
  name_prefix = "${var.name}-private-"
  description = "What the appliance reaches"
  vpc_id      = var.vpc_id
}

# Amazon's name server, metadata and time services are reached whatever the rules.
resource "aws_vpc_security_group_egress_rule" "targets" {
  for_each          = { for pair in setproduct(concat([22, 3389], [for url in [var.store_url] : var.store_port if url != ""]), var.target_networks) : join(" ", pair) => pair }
  security_group_id = aws_security_group.private.id
  ip_protocol       = "tcp"
  from_port         = each.value[0]
  to_port           = each.value[0]
  cidr_ipv4         = each.value[1]
}

resource "aws_vpc_security_group_egress_rule" "services" {
  for_each          = toset(var.service_networks)
  security_group_id = aws_security_group.private.id
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
  cidr_ipv4         = each.key
}

resource "aws_lb" "this" {
  name_prefix                      = substr(var.name, 0, 6)
  load_balancer_type               = "network"
  internal                         = false
  subnets                          = [for zone in var.zones : zone.public_subnet]
  security_groups                  = [aws_security_group.balancer.id]
  enable_cross_zone_load_balancing = true
}

resource "aws_security_group" "balancer" {
  name_prefix = "${var.name}-balancer-"
  description = "The load balancer of the appliance"
  vpc_id      = var.vpc_id
}

resource "aws_vpc_security_group_ingress_rule" "balancer" {
  for_each          = aws_vpc_security_group_ingress_rule.people
  security_group_id = aws_security_group.balancer.id
  ip_protocol       = each.value.ip_protocol
  from_port         = 443
  to_port           = 443
  cidr_ipv4         = each.value.cidr_ipv4
  cidr_ipv6         = each.value.cidr_ipv6
}

resource "aws_vpc_security_group_egress_rule" "balancer" {
  for_each                     = toset(["tcp", "udp"])
  security_group_id            = aws_security_group.balancer.id
  ip_protocol                  = each.key
  from_port                    = 443
  to_port                      = 443
  referenced_security_group_id = aws_security_group.public.id
}

# Somebody whose UDP is blocked in the midst of things goes on over TCP, with the same appliance: who has the flow.
resource "aws_lb_target_group" "this" {
  name_prefix            = substr(var.name, 0, 6)
  vpc_id                 = var.vpc_id
  protocol               = "TCP_UDP"
  port                   = 443
  target_type            = "instance"
  deregistration_delay   = 120
  connection_termination = false

  stickiness {
    type    = "source_ip"
    enabled = true
  }

  # An appliance whose port answers is asked to take people.
  health_check {
    protocol            = "TCP"
    port                = "443"
    interval            = 10
    healthy_threshold   = 2
    unhealthy_threshold = 2
  }
}

resource "aws_lb_listener" "this" {
  load_balancer_arn = aws_lb.this.arn
  protocol          = "TCP_UDP"
  port              = 443

  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.this.arn
  }
}

# One of each for a zone: a second NIC binds its VM to the zone of its subnet.
resource "aws_launch_template" "this" {
  for_each               = var.zones
  name_prefix            = "${var.name}-${each.key}-"
  image_id               = local.image_id
  instance_type          = var.instance_type
  user_data              = base64gzip(local.document)
  update_default_version = true

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  block_device_mappings {
    device_name = "/dev/xvda"
    ebs {
      volume_size           = 4
      volume_type           = "gp3"
      encrypted             = true
      delete_on_termination = true
    }
  }

  dynamic "network_interfaces" {
    for_each = local.nics
    content {
      device_index          = network_interfaces.key
      subnet_id             = network_interfaces.value == "public" ? each.value.public_subnet : each.value.private_subnet
      security_groups       = local.groups[network_interfaces.value]
      delete_on_termination = true
    }
  }

  tag_specifications {
    resource_type = "instance"
    tags          = { Name = "${var.name}-${each.key}" }
  }

  lifecycle {
    precondition {
      condition     = length(base64gzip(local.document)) <= 21848 # of base64, 16 KiB
      error_message = "The configuration and its files are longer, packed, than the 16 KiB that EC2 takes as user data."
    }
  }
}

resource "aws_autoscaling_group" "this" {
  for_each                  = var.zones
  name_prefix               = "${var.name}-${each.key}-"
  min_size                  = each.value.instances
  max_size                  = each.value.instances + 1
  desired_capacity          = each.value.instances
  target_group_arns         = [aws_lb_target_group.this.arn]
  health_check_type         = "ELB"
  health_check_grace_period = 120
  availability_zones        = [data.aws_subnet.public[each.key].availability_zone]

  launch_template {
    id      = aws_launch_template.this[each.key].id
    version = aws_launch_template.this[each.key].latest_version
  }

  # Another image or configuration: a new appliance first, then one of the old ones goes.
  instance_refresh {
    strategy = "Rolling"
    preferences {
      min_healthy_percentage = 100
      max_healthy_percentage = 200
      instance_warmup        = 60
    }
  }
}

data "aws_subnet" "public" {
  for_each = var.zones
  id       = each.value.public_subnet
}
