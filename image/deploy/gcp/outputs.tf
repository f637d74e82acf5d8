output "address" {
  description = "Where people come in: the DNS name of the appliance leads here."
  value       = var.address
}

output "image" {
  description = "The image that new appliances are made from."
  value       = local.image
}
