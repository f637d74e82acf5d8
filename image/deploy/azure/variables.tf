variable "name" {
  description = "Begins the names of all that is made."
  type        = string
  default     = "sallyport"
}

variable "location" {
  description = "The region, such as westeurope."
  type        = string
}

variable "public_subnet_id" {
  description = "The subnet that people come in by. With one NIC, the only one."
  type        = string
}

variable "private_subnet_id" {
  description = "The subnet that leads to the targets; empty for one NIC."
  type        = string
  default     = ""
}

variable "instances" {
  description = "How many appliances stand for one. More than one need store_url."
  type        = number
  default     = 1

  validation {
    condition     = var.instances == 1 || var.store_url != ""
    error_message = "Several appliances need a database that they share: give store_url."
  }
}

variable "zones" {
  description = "The availability zones that they are spread over."
  type        = list(string)
  default     = ["1", "2", "3"]
}

variable "size" {
  description = "The size of a VM; of the second generation, with accelerated networking."
  type        = string
  default     = "Standard_D2as_v5"
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

variable "idle_minutes" {
  description = "After how many minutes without a packet the load balancer forgets a connection, 4 to 100."
  type        = number
  default     = 30
}
