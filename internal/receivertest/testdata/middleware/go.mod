module receiver

go 1.26.0 // not below that of the checkout

require postrider v0.0.0

replace postrider => ../../../..
