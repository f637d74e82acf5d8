using 'main.bicep'

param imageVersionId = '/subscriptions/…/galleries/sallyport/images/sallyport/versions/1.0.0'
param publicSubnetId = '/subscriptions/…/virtualNetworks/hub/subnets/bastion'
param configuration = loadTextContent('../samples/one-nic.yaml')
param files = { 'access.yaml': loadTextContent('../samples/access.yaml') }
