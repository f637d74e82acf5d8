variable "name" {
  description = "Begins the names of all that is made."
  type        = string
  default     = "sallyport"
}

variable "region" {
  description = "The region, such as eu-central-1."
  type        = string
}

variable "vpc_id" {
  description = "The VPC that the subnets are in."
  type        = string
}

variable "zones" {
  description = "The appliances: for each availability zone how many, the subnet that people come in by and the one that leads to the targets. Without a private subnet there is one NIC."
  type = map(object({
    instances      = optional(number, 1)
    public_subnet  = string
    private_subnet = optional(string, "")
  }))

  validation {
    condition     = length(var.zones) > 0 && length(distinct([for zone in var.zones : zone.private_subnet == ""])) == 1
    error_message = "Give at least one zone, and either all of them a private subnet or none."
  }

  validation {
    condition     = sum([for zone in var.zones : zone.instances]) == 1 || var.store_url != ""
    error_message = "Several appliances need a database that they share: give store_url."
  }
}

variable "instance_type" {
  description = "A type with ENA, which boots by UEFI."
  type        = string
  default     = "c7a.large"
}

variable "target_networks" {
  description = "Where SSH and RDP may go, as IPv4 networks; the same as prefixes in the configuration."
  type        = list(string)
}

variable "store_port" {
  description = "The port of the database, which may be reached beside SSH and RDP."
  type        = number
  default     = 5432
}

variable "service_networks" {
  description = "Where HTTPS may go, for an identity provider or a certificate authority, as IPv4 networks."
  type        = list(string)
  default     = []
}
